{% macro _plugin_alias() %}
  {{ return(var('enrichment_plugin', 'enrich')) }}
{% endmacro %}
