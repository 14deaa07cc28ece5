{% macro _no_statement() %}
  {#- dbt 2 runs what a hook returns, whatever it is, and most databases refuse an empty statement. -#}
  {{ return('' if dbt_version[:2] == '1.' else 'select 1') }}
{% endmacro %}
