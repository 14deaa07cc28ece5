{% macro _waits(existing) %}
  {%- set waiting -%}
    select 1 from {{ existing }}
    where enrichment_status in ('pending', 'stale') and enrichment_error is not null
    limit 1
  {%- endset -%}
  {{ return(run_query(waiting).rows | length > 0) }}
{% endmacro %}
