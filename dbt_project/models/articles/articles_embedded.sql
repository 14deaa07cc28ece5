{{ config(materialized='enrichment', unique_key='article_id') }}

select
    article_id,
    headline,
    paragraph
from {{ ref('articles_summarised') }}
