{% macro _label(node) %}
  {%- set version = node.get('version') -%}
  {%- set name = node.name if version is none else node.name ~ '.v' ~ version -%}
  {%- for other in graph.nodes.values() if other.resource_type == 'model' and other.name == node.name -%}
    {%- if other.package_name != node.package_name and other.get('version') == version -%}
      {{ return(node.package_name ~ '.' ~ name) }}
    {%- endif -%}
  {%- endfor -%}
  {{ return(name) }}
{% endmacro %}
