-- Products whose title names another colour than their picture shows, and those without a caption.
select
    product_id,
    department,
    title,
    picture,
    colour_of_title,
    main_colour::varchar as colour_of_picture,
    caption,
    case
        when enrichment_status = 'pending' then 'not looked at yet'
        when enrichment_status not in ('done', 'stale') then 'no usable picture'
        else 'another colour'
    end as finding,
    enrichment_error
from {{ ref('products_enriched') }}
where enrichment_status not in ('done', 'stale')
   or colour_of_title <> main_colour::varchar
order by finding, product_id
