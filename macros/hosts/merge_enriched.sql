{% macro merge_enriched(target, intermediate, enriched_sql, errors_sql) %}
  {{ return(adapter.dispatch('merge_enriched', 'dbt_enrich')(target, intermediate, enriched_sql, errors_sql)) }}
{% endmacro %}

{% macro default__merge_enriched(target, intermediate, enriched_sql, errors_sql) %}
  {%- do dbt_enrich.create_work_table(intermediate, enriched_sql) -%}
  {%- set errors = dbt_enrich._errors_relation(target) -%}
  {% if adapter.get_relation(database=errors.database, schema=errors.schema, identifier=errors.identifier) is none %}
    {%- do dbt_enrich.create_work_table(errors, errors_sql) -%}
  {% else %}
    {%- do dbt_enrich._put_rows('errors', errors, intermediate, errors_sql) -%}
  {% endif %}
  {%- do dbt_enrich._put_rows('main', target, intermediate, 'select * from ' ~ intermediate) -%}
  {%- do adapter.drop_relation(intermediate) -%}
{% endmacro %}
