{% macro _drop_member_checks(relation) %}
  {%- for name in (dbt_enrich._options().get('output') or []) + ['enrichment_status'] -%}
    {% call statement('drop_member_checks') -%}
      alter table {{ relation }} drop constraint if exists {{ adapter.quote(name ~ '_members') }}
    {%- endcall %}
  {%- endfor -%}
{% endmacro %}
