{{ config(materialized='enrichment', unique_key='ticket_id') }}

select
    ticket_id,
    received_at,
    channel,
    subject,
    body,
    snippets,
    offered_snippets
from {{ ref('stg_tickets') }}
left join {{ ref('help_for_tickets') }} using (ticket_id)
{% if dbt_enrich.is_incremental() %}
where ticket_id not in (select ticket_id from {{ this }})
{% endif %}
