{{ config(materialized='enrichment', unique_key='movie_id') }}

select
    movie_id,
    title,
    overview
from {{ ref('stg_movies') }}
