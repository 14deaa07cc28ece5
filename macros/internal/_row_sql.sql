{% macro _row_sql(columns) %}
  {#- The mark of what is asked stands behind it, so that rows that were asked otherwise are stale at once. -#}
  {{ return(dbt_enrich.fingerprint(dbt_enrich._sent_columns(columns)) ~ " || '-" ~ dbt_enrich._task_mark() ~ "'") }}
{% endmacro %}
