{% macro _has_plugin() %}
  {#- dbt 2 has no plugins, whatever the profile says. -#}
  {{ return(dbt_version[:2] == '1.' and dbt_enrich._names_plugin()) }}
{% endmacro %}
