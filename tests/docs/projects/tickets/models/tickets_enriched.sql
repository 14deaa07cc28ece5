{{ config(materialized = 'enrichment', unique_key = 'ticket_id') }}
select ticket_id, subject, body from {{ ref('stg_tickets') }}
