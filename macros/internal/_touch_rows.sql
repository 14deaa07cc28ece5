{% macro _touch_rows(target, source, staged, unique_key, deletes) %}
  {%- set keys = [unique_key] if unique_key is string else unique_key -%}
  {% if deletes %}
  delete from {{ target }} as target
  where not exists (
    select 1 from {{ staged }} as staged
    where {% for key in keys -%}
      staged.{{ adapter.quote(key) }} = target.{{ adapter.quote(key) }}
      {%- if not loop.last %} and {% endif %}
    {%- endfor %}
  );
  {% endif %}
  {{ dbt_enrich._merge_into(target, source, unique_key, has_merge=false) }}
{% endmacro %}
