{% macro _mode(relation) %}
  {#- Not while parsing, where dbt would parse anew for another value of the variable. -#}
  {%- if not execute -%}
    {{ return('run') }}
  {%- endif -%}
  {%- set told = env_var('DBT_ENRICH_MODE', '') or var('enrichment_mode', none) -%}
  {%- if told -%}
    {{ return(told) }}
  {%- endif -%}
  {%- for node in graph.nodes.values() if node.resource_type == 'model' -%}
    {#- With a `where`, what is tested is a SELECT from the relation. -#}
    {%- if node.relation_name and node.relation_name in relation | string -%}
      {{ return(((node.config.meta or {}).get('enrichment') or {}).get('mode', 'run')) }}
    {%- endif -%}
  {%- endfor -%}
  {{ return('run') }}
{% endmacro %}
