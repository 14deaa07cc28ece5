{{ config(materialized='enrichment', unique_key='movie_id') }}

select
    movie_id,
    title,
    released_year,
    runtime_minutes,
    rating,
    overview
from {{ ref('stg_movies') }}
