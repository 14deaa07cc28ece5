{{ config(materialized='enrichment', unique_key='feedback_id') }}

select
    feedback_id,
    submitted_on,
    product,
    channel,
    rating,
    comment
from {{ ref('stg_feedback') }}
