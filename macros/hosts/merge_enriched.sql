{% macro merge_enriched(target, intermediate, enriched_sql, errors_sql) %}
  {{ return(adapter.dispatch('merge_enriched', 'dbt_enrich')(target, intermediate, enriched_sql, errors_sql)) }}
{% endmacro %}

{% macro default__merge_enriched(target, intermediate, enriched_sql, errors_sql) %}
  {%- do dbt_enrich.create_work_table(intermediate, enriched_sql) -%}
  {%- do dbt_enrich._merge_errors(target, intermediate, errors_sql) -%}
  {%- do dbt_enrich._put_rows('main', target, intermediate, 'select * from ' ~ intermediate) -%}
  {%- do adapter.drop_relation(intermediate) -%}
{% endmacro %}

{% macro duckdb__merge_enriched(target, intermediate, enriched_sql, errors_sql) %}
  {%- do dbt_enrich.create_work_table(intermediate, enriched_sql) -%}
  {%- do dbt_enrich._merge_errors(target, intermediate, errors_sql) -%}
  {#- A unique index still has the key of a row that the same transaction deleted. -#}
  {% call statement('main') -%}
    {{ dbt_enrich._merge_into(target, intermediate, dbt_enrich._unique_key()) }}
  {%- endcall %}
  {%- do adapter.drop_relation(intermediate) -%}
{% endmacro %}
