{% macro _merge_into(target, source, unique_key) %}
  {%- set keys = [unique_key] if unique_key is string else unique_key -%}
  merge into {{ target }} as target
  using {{ source }} as source
  on {% for key in keys -%}
    target.{{ adapter.quote(key) }} = source.{{ adapter.quote(key) }}
    {%- if not loop.last %} and {% endif %}
  {%- endfor %}
  when matched then update by name
  when not matched then insert by name
{% endmacro %}
