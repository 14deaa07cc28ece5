{% macro _put_rows(name, target, source, sql) %}
  {#- In place of those that have a unique key of the source. -#}
  {% call statement(name ~ '_before') -%}
    delete from {{ target }} as target
    where exists (select 1 from {{ source }} as source where {{ dbt_enrich._same_key('source', 'target') }})
  {%- endcall %}
  {%- set columns -%}
    {%- for column in get_columns_in_query(sql) -%}
      {{ '' if loop.first else ', ' }}{{ adapter.quote(column) }}
    {%- endfor -%}
  {%- endset -%}
  {% call statement(name) -%}
    insert into {{ target }} ({{ columns }})
    select {{ columns }} from (
      {{ sql }}
    ) as rows_of_source
  {%- endcall %}
{% endmacro %}
