-- How many tickets come in, about what, and how many of them cannot wait.
with sorted as (

    select
        date_trunc('week', received_at)::date as week,
        case
            when enrichment_status in ('done', 'stale') then product_area::varchar
            when enrichment_status = 'skipped' then 'empty'
            else 'not sorted yet'
        end as product_area,
        urgency
    from {{ ref('tickets_enriched') }}

),

counted as (

    select
        week,
        product_area,
        count(*) as tickets,
        count(*) filter (urgency = 'critical') as critical,
        count(*) filter (urgency = 'high') as high
    from sorted
    group by all

)

select
    week,
    product_area,
    tickets,
    critical,
    high,
    round((critical + high) / tickets, 2) as urgent_share,
    sum(tickets) over (partition by week) as tickets_of_week
from counted
order by week, tickets desc, product_area
