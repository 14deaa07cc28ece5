{% macro _check_members(relation, scans=true) %}
  {#- Of columns that are enums to the task. What an earlier version of it has answered stays. -#}
  {%- for output in dbt_enrich._options().get('output', []) -%}
    {%- set kind = dbt_enrich._output_type(output) | trim -%}
    {% if kind[:4] | lower == 'enum' and kind[-1:] == ')' %}
      {%- set is_member = adapter.quote(output) ~ ' in ' ~ kind[4:] -%}
      {%- set others = 'select 1 from ' ~ relation ~ ' where not (' ~ is_member ~ ') limit 1' -%}
      {%- set is_valid = scans and run_query(others).rows | length == 0 -%}
      {% call statement('check_members') -%}
        alter table {{ relation }}
        add constraint {{ adapter.quote(output ~ '_members') }} check ({{ is_member }})
        {%- if not is_valid %} not valid{% endif %}
      {%- endcall %}
    {% endif %}
  {%- endfor -%}
{% endmacro %}
