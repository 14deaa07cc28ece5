{% macro _upstream(parents, is_alone=true, seen=none) %}
  {%- set parents = parents | unique | list -%}
  {%- set seen = [] if seen is none else seen -%}
  {%- set is_alone = is_alone and parents | length == 1 -%}
  {%- set found = [] -%}
  {%- for id in parents if id in graph.nodes and id not in seen -%}
    {%- do seen.append(id) -%}
    {%- set node = graph.nodes[id] -%}
    {#- What a Python model is, its table says. -#}
    {%- if node.config.materialized == 'enrichment' or node.language == 'python' -%}
      {%- do found.append({
        'name': dbt_enrich._label(node),
        'unique_id': id,
        'relations': [node.relation_name, (node.defer_relation or {}).relation_name],
        'unique_key': node.config.unique_key,
        'is_alone': is_alone,
      }) -%}
    {%- endif -%}
    {%- if node.config.materialized != 'enrichment' -%}
      {%- do found.extend(dbt_enrich._upstream(node.depends_on.nodes or [], is_alone, seen)) -%}
    {%- endif -%}
  {%- endfor -%}
  {{ return(found) }}
{% endmacro %}
