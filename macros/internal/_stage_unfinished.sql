{% macro _stage_unfinished(rows, columns, existing, results) %}
  {%- set names -%}
    {%- for column in columns -%}
      {{ '' if loop.first else ', ' }}{{ adapter.quote(column) }}
    {%- endfor -%}
  {%- endset -%}
  {#- What was forgotten is unfinished in the results alone. -#}
  {% call statement('stage_unfinished') -%}
    insert into {{ rows }}
    select {{ names }}, {{ dbt_enrich._row_sql(columns) }}
    from {{ existing }} as previous
    where (
        enrichment_status in ('pending', 'stale', 'failed')
        {%- if results %}
        or exists (
          select 1 from {{ results }} as results
          where {{ dbt_enrich._same_key('results', 'previous') }} and results.enrichment_status = 'stale'
        )
        {%- endif %}
      )
      and not exists (
        select 1 from {{ rows }} as staged where {{ dbt_enrich._same_key('staged', 'previous') }}
      )
  {%- endcall %}
{% endmacro %}
