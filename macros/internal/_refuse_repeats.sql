{% macro _refuse_repeats(rows) %}
  {#- Of a row that has its answer and one that has not, the command would see the second alone. -#}
  {%- set keys = dbt_enrich._unique_key() -%}
  {%- set names -%}
    {%- for key in keys -%}
      {{ '' if loop.first else ', ' }}{{ adapter.quote(key) }}
    {%- endfor -%}
  {%- endset -%}
  {%- set query -%}
    select {{ names }}, count(*) from {{ rows }}
    where {% for key in keys %}{{ '' if loop.first else ' and ' }}{{ adapter.quote(key) }} is not null{% endfor %}
    group by {{ names }} having count(*) > 1
    order by {{ names }}
    limit 1
  {%- endset -%}
  {%- for row in run_query(query).rows -%}
    {%- set values -%}
      {%- for key in keys -%}{{ '' if loop.first else ', ' }}{{ row[loop.index0] }}{%- endfor -%}
    {%- endset -%}
    {%- do exceptions.raise_compiler_error(
      "model '" ~ model.name ~ "': the unique_key '" ~ keys | join(', ') ~ "' is not unique: the value "
      ~ values ~ " stands in " ~ row[keys | length] ~ " rows; remove the repeats or choose another key"
    ) -%}
  {%- endfor -%}
{% endmacro %}
