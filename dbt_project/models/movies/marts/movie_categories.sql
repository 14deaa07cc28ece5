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
    unnest(categories)::varchar as category
from enriched
