with enriched as (

    select *
    from {{ ref('movies_enriched') }}
    where enrichment_status = 'done'

)

select
    movie_id,
    title,
    released_year,
    runtime_minutes,
    rating,
    unnest(list_distinct(categories)) as category
from enriched
