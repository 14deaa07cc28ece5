{% macro _missing_parents(parents) %}
  {%- set missing = namespace(names=[]) -%}
  {%- for id in parents if id in graph.nodes -%}
    {%- set node = graph.nodes[id] -%}
    {%- if not node.relation_name -%}
      {#- An ephemeral model is part of the SELECT. -#}
      {%- set missing.names = missing.names + dbt_enrich._missing_parents(node.depends_on.nodes or []) -%}
    {%- elif not node.defer_relation and not adapter.get_relation(node.database, node.schema, node.alias) -%}
      {%- set missing.names = missing.names + [dbt_enrich._label(node)] -%}
    {%- endif -%}
  {%- endfor -%}
  {{ return(missing.names | unique | list) }}
{% endmacro %}
