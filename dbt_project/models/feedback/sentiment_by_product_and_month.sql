-- How customers speak of each product by month, and what they complain of most.
with comments as (

    select
        product,
        date_trunc('month', submitted_on)::date as month,
        count(*) as comments,
        round(avg(rating), 1) as mean_rating
    from {{ ref('feedback_enriched') }}
    where enrichment_status = 'done'
    group by all

),

mentions as (

    select
        product,
        date_trunc('month', submitted_on)::date as month,
        count(*) as mentions,
        count(*) filter (sentiment = 'positive') as positive,
        count(*) filter (sentiment = 'negative') as negative,
        mode(aspect order by aspect) filter (sentiment = 'negative') as most_criticised
    from {{ ref('feedback_aspects') }}
    where is_quoted
    group by all

)

select
    product,
    month,
    comments,
    mean_rating,
    coalesce(mentions, 0) as mentions,
    coalesce(positive, 0) as positive,
    coalesce(negative, 0) as negative,
    round((positive - negative) / nullif(mentions, 0), 2) as net_sentiment,
    most_criticised
from comments
left join mentions using (product, month)
order by product, month
