{{ config(materialized='enrichment', unique_key='article_id') }}

select
    article_id,
    published_on,
    section,
    title,
    headline,
    sentence,
    paragraph
from {{ ref('articles_summarised') }}
