{{ config(materialized='enrichment', unique_key='product_id') }}

select
    product_id,
    department,
    title,
    picture,
    colour_of_title
from {{ ref('stg_products') }}
