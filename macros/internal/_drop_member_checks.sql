{% macro _drop_member_checks(relation) %}
  {%- for output in dbt_enrich._options().get('output', []) -%}
    {% call statement('drop_member_checks') -%}
      alter table {{ relation }} drop constraint if exists {{ adapter.quote(output ~ '_members') }}
    {%- endcall %}
  {%- endfor -%}
{% endmacro %}
