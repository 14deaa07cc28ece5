{% macro _unique_key() %}
  {%- set unique_key = config.require('unique_key') -%}
  {{ return([unique_key] if unique_key is string else unique_key) }}
{% endmacro %}
