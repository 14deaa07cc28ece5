{% macro _call_plugin(action, target, values={}) %}
  {%- set request = {
    'action': action,
    'version': dbt_enrich._package_version(),
  } -%}
  {% do request.update(values) %}
  {#- The adapter hands the dict itself to the plugin, which leaves its answer in it. -#}
  {% do adapter.store_relation(dbt_enrich._plugin_alias(), target, [], '', '', request) %}
  {{ return(request.get('result')) }}
{% endmacro %}
