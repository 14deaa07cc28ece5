{% macro publish_enriched(existing, intermediate, target, backup, enriched_sql, errors_sql) %}
  {{ return(adapter.dispatch('publish_enriched', 'dbt_enrich')(
    existing, intermediate, target, backup, enriched_sql, errors_sql
  )) }}
{% endmacro %}

{% macro default__publish_enriched(existing, intermediate, target, backup, enriched_sql, errors_sql) %}
  {%- do dbt_enrich.create_enriched_table(intermediate, enriched_sql) -%}
  {%- do dbt_enrich.create_work_table(dbt_enrich._errors_relation(target), errors_sql) -%}
  {% if existing is not none %}
    {{ adapter.rename_relation(existing, backup) }}
  {% endif %}
  {{ adapter.rename_relation(intermediate, target) }}
  {% do create_indexes(target) %}
{% endmacro %}

{% macro duckdb__publish_enriched(existing, intermediate, target, backup, enriched_sql, errors_sql) %}
  {%- do dbt_enrich.create_enriched_table(intermediate, enriched_sql) -%}
  {%- do dbt_enrich.create_work_table(dbt_enrich._errors_relation(target), errors_sql) -%}
  {% do dbt_enrich._replace_table(existing, intermediate, target, backup) %}
{% endmacro %}
