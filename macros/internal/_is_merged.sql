{% macro _is_merged(existing) %}
  {%- if dbt_enrich._options().get('publish') != 'merge' or existing is none -%}
    {{ return(false) }}
  {%- endif -%}
  {{ return(existing.is_table and not should_full_refresh()) }}
{% endmacro %}
