{% macro _create_work_schemas() %}
  {#- Before dbt's threads, which would be in each other's way. dbt 2 does not say what is selected. -#}
  {%- set selected = selected_resources if selected_resources is defined else [] -%}
  {%- for node in graph.nodes.values() if not selected or node.unique_id in selected -%}
    {%- if node.resource_type == 'model' and node.config.materialized == 'enrichment' -%}
      {%- set table = api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias) -%}
      {#- What is refused, the model says. -#}
      {%- if not dbt_enrich._other_catalog(table) -%}
        {%- do dbt_enrich._create_work_schema(dbt_enrich._work_relation(table, 'rows')) -%}
      {%- endif -%}
    {%- endif -%}
  {%- endfor -%}
{% endmacro %}
