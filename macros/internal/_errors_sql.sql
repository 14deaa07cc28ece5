{% macro _errors_sql(target) %}
  {%- set failures = dbt_enrich._existing_work_relation(target, 'failures') -%}
  {%- set select -%}
    select
      {% for key in dbt_enrich._unique_key() -%}
      staged.{{ adapter.quote(key) }},
      {% endfor -%}
      {% for column in dbt_enrich._error_columns() -%}
      {%- if failures -%}
      failures.{{ column[0] }}
      {%- else -%}
      cast(null as {{ dbt_enrich.host_type(column[1]) }})
      {%- endif %} as {{ column[0] }}{{ '' if loop.last else ',' }}
      {% endfor -%}
    from {{ dbt_enrich._work_relation(target, 'rows') }} as staged
    {% if failures -%}
    join {{ failures }} as failures
      on {{ dbt_enrich._same_key('failures', 'staged') }}
      and failures.enrichment_row = staged.enrichment_row
    {%- else -%}
    where false
    {%- endif %}
  {%- endset -%}
  {{ return(select) }}
{% endmacro %}
