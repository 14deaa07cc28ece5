{% macro _existing_work_relation(relation, kind) %}
  {%- set work = dbt_enrich._work_relation(relation, kind) -%}
  {{ return(adapter.get_relation(database=work.database, schema=work.schema, identifier=work.identifier)) }}
{% endmacro %}
