{% macro _stage_unfinished(rows, columns, existing) %}
  {%- set names -%}
    {%- for column in columns -%}
      {{ '' if loop.first else ', ' }}{{ adapter.quote(column) }}
    {%- endfor -%}
  {%- endset -%}
  {% call statement('stage_unfinished') -%}
    insert into {{ rows }} ({{ names }}, enrichment_row)
    select {{ names }}, {{ dbt_enrich._row_sql(columns) }}
    from {{ existing }} as previous
    where enrichment_status in ('pending', 'stale', 'failed')
      and not exists (
        select 1 from {{ rows }} as staged where {{ dbt_enrich._same_key('staged', 'previous') }}
      )
  {%- endcall %}
{% endmacro %}
