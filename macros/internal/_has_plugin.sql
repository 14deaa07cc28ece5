{% macro _has_plugin() %}
  {%- if target.type != 'duckdb' -%}
    {{ return(false) }}
  {%- endif -%}
  {%- for plugin in target.get('plugins') or [] -%}
    {%- if (plugin.alias or plugin.module) == dbt_enrich._plugin_alias() -%}
      {{ return(true) }}
    {%- endif -%}
  {%- endfor -%}
  {{ return(false) }}
{% endmacro %}
