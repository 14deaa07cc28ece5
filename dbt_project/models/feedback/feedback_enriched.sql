{{ config(materialized='enrichment', unique_key='feedback_id') }}

select
    feedback_id,
    submitted_on,
    product,
    channel,
    rating,
    comment,
    language,
    english
from {{ ref('feedback_translated') }}
