{% macro _has_plugin() %}
  {%- if target.type != 'duckdb' -%}
    {{ return(false) }}
  {%- endif -%}
  {%- set aliases = [] -%}
  {%- for plugin in adapter.config.credentials.plugins or [] -%}
    {%- do aliases.append(plugin.alias or plugin.module) -%}
  {%- endfor -%}
  {{ return(dbt_enrich._plugin_alias() in aliases) }}
{% endmacro %}
