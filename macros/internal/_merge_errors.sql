{% macro _merge_errors(target, intermediate, errors_sql) %}
  {%- set errors = dbt_enrich._errors_relation(target) -%}
  {% if adapter.get_relation(database=errors.database, schema=errors.schema, identifier=errors.identifier) is none %}
    {%- do dbt_enrich.create_work_table(errors, errors_sql) -%}
  {% else %}
    {%- do dbt_enrich._put_rows('errors', errors, intermediate, errors_sql) -%}
  {% endif %}
{% endmacro %}
