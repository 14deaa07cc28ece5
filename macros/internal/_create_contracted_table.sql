{% macro _create_contracted_table(relation, sql, kind='table') %}
  {%- set columns = dbt_enrich._contract_columns() -%}
  {%- do dbt_enrich._refuse_breach(columns, sql) -%}
  {%- set names = dbt_enrich._contract_names(columns) -%}
  {%- set definitions = adapter.render_raw_columns_constraints(raw_columns=columns)
    + adapter.render_raw_model_constraints(raw_constraints=model.constraints) -%}
  {% call statement('main') -%}
    create {{ kind }} {{ relation }} (
      {{ definitions | join(', ') }}
    );
    insert into {{ relation }} ({{ names }})
    select {{ names }} from (
      {{ sql }}
    ) as contracted
  {%- endcall %}
{% endmacro %}
