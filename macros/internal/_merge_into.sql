{% macro _merge_into(target, source, unique_key, has_merge=true) %}
  {%- set keys = [unique_key] if unique_key is string else unique_key -%}
  {%- if not has_merge %}
  delete from {{ target }} as target
  using {{ source }} as source
  where {% for key in keys -%}
    target.{{ adapter.quote(key) }} = source.{{ adapter.quote(key) }}
    {%- if not loop.last %} and {% endif %}
  {%- endfor %};
  insert into {{ target }} by name select * from {{ source }}
  {%- else %}
  merge into {{ target }} as target
  using {{ source }} as source
  on {% for key in keys -%}
    target.{{ adapter.quote(key) }} = source.{{ adapter.quote(key) }}
    {%- if not loop.last %} and {% endif %}
  {%- endfor %}
  when matched then update by name
  when not matched then insert by name
  {%- endif %}
{% endmacro %}
