{% macro create_work_table(relation, sql) %}
  {{ return(adapter.dispatch('create_work_table', 'dbt_enrich')(relation, sql)) }}
{% endmacro %}

{% macro default__create_work_table(relation, sql) %}
  {%- do adapter.drop_relation(relation) -%}
  {% call statement('create_work_table') -%}
    create table {{ relation }} as (
      {{ sql }}
    )
  {%- endcall %}
{% endmacro %}
