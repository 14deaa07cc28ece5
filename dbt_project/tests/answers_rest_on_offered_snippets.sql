-- An answer that names a snippet which it was not shown has made it up. A draft is read before it
-- is sent, so that this warns.
{{ config(severity='warn', tags=['tickets']) }}

select
    ticket_id,
    answered_from,
    offered_snippets,
    suggested_answer
from {{ ref('tickets_enriched') }}
where enrichment_status = 'done'
  and not list_has_all(coalesce(offered_snippets, []), answered_from)
