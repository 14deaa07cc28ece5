{% macro _refuse_not_null_outputs() %}
  {#- dbt builds the table before the answers are there. -#}
  {%- set outputs = (dbt_enrich._options().get('output') or []) | map('lower') | list -%}
  {%- set named = namespace(columns=[]) -%}
  {%- for name in model.columns -%}
    {%- for constraint in model.columns[name].constraints or [] if constraint.type == 'not_null' -%}
      {%- set named.columns = named.columns + [name] -%}
    {%- endfor -%}
  {%- endfor -%}
  {%- for constraint in model.constraints or [] if constraint is mapping and constraint.type == 'not_null' -%}
    {%- set named.columns = named.columns + (constraint.columns or []) -%}
  {%- endfor -%}
  {%- for name in named.columns if name | lower in outputs -%}
    {%- do exceptions.raise_compiler_error(
      "model '" ~ model.name ~ "': the contract has the output '" ~ name ~ "' not_null, but rows are pending until `dbt-enrich run` "
      ~ "has their answers; write a check in its place: enrichment_status <> 'done' or " ~ name ~ " is not null"
    ) -%}
  {%- endfor -%}
{% endmacro %}
