{% macro _is_unplanned(target) %}
  {%- if dbt_enrich._mode(this) != 'plan' -%}
    {{ return(false) }}
  {%- endif -%}
  {%- set missing = dbt_enrich._missing_parents(model.depends_on.nodes) -%}
  {%- if not missing -%}
    {{ return(false) }}
  {%- endif -%}
  {% do dbt_enrich._call_plugin('unplanned', target, {
    'name': dbt_enrich._label(model),
    'unique_id': model.unique_id,
    'missing': missing,
  }) %}

  -- `BEGIN` happens here, and nothing of it is committed: dbt asks for a statement of this name
  {% call statement('main') -%}
    select 1
  {%- endcall %}
  {{ return(true) }}
{% endmacro %}
