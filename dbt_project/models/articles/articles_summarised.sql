{{ config(materialized='enrichment', unique_key='article_id') }}

select
    article_id,
    published_on,
    section,
    title,
    body
from {{ ref('stg_articles') }}
