{% macro _create_table_as(relation, sql) %}
  {%- set layout = {} -%}
  {#- dbt-duckdb 1.11 writes these for DuckLake, and warns of them elsewhere. -#}
  {%- if duckdb__get_partitioned_by is defined -%}
    {%- set layout = {
      'partitioned_by': duckdb__get_partitioned_by(relation, false),
      'sorted_by': duckdb__get_sorted_by(relation, false),
    } -%}
  {%- endif -%}
  {%- if config.get('sql_header') and not config.get('contract').enforced -%}
    {#- The header ran when the rows were staged; it may be no statement that can run twice. -#}
    create table {{ relation }} as (
      {{ sql }}
    );
  {%- else -%}
    {{ create_table_as(False, relation, sql, **layout) }}
  {%- endif -%}
{% endmacro %}
