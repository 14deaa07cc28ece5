{% macro _contract_names(columns) %}
  {%- for name in columns -%}
    {{ '' if loop.first else ', ' }}{{ adapter.quote(name) if columns[name].quote | default(false) else name }}
  {%- endfor -%}
{% endmacro %}
