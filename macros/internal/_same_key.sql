{% macro _same_key(one, other) %}
  {%- for key in dbt_enrich._unique_key() -%}
    {{ '' if loop.first else ' and ' }}{{ one }}.{{ adapter.quote(key) }} = {{ other }}.{{ adapter.quote(key) }}
  {%- endfor -%}
{% endmacro %}
