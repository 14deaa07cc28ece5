{% macro _names_plugin() %}
  {%- for plugin in target.get('plugins') or [] if target.type == 'duckdb' -%}
    {%- if (plugin.alias or plugin.module) == dbt_enrich._plugin_alias() -%}
      {{ return(true) }}
    {%- endif -%}
  {%- endfor -%}
  {{ return(false) }}
{% endmacro %}
