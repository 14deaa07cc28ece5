{% macro _refuse_idle_plugin() %}
  {#- What it has published would be published again without its answers. -#}
  {%- if dbt_enrich._names_plugin() -%}
    {%- do exceptions.raise_compiler_error(
      "the target '" ~ target.name ~ "' has the plugin dbt_enrich.plugin, and dbt " ~ dbt_version
      ~ " has no plugins; take it out of the target and write dbt_enrich.yml (dbt-enrich init "
      ~ "--no-plugin), or run dbt-core"
    ) -%}
  {%- endif -%}
{% endmacro %}
