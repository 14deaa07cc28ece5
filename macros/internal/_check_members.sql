{% macro _check_members(relation, scans=true) %}
  {#- What an earlier version of the task has answered stays, whatever it is. -#}
  {%- for name, members in dbt_enrich._enums() -%}
    {%- set is_member = adapter.quote(name) ~ ' in ' ~ members -%}
    {%- set others = 'select 1 from ' ~ relation ~ ' where not (' ~ is_member ~ ') limit 1' -%}
    {%- set is_valid = scans and run_query(others).rows | length == 0 -%}
    {% call statement('check_members') -%}
      alter table {{ relation }}
      add constraint {{ adapter.quote(name ~ '_members') }} check ({{ is_member }})
      {%- if not is_valid %} not valid{% endif %}
    {%- endcall %}
  {%- endfor -%}
{% endmacro %}
